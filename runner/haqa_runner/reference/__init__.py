"""The accuracy of a model that is not served, since no replica of the pool can hold it: what others are judged by."""
