"""The language model is talked to by a process of its own, which has no rights in the cluster.

litellm and what it imports live there alone. A request has everything with it, the key too, and nothing of it is kept.
"""
