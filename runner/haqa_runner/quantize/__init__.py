"""The step that makes a quantized artifact of a model, or finds it made."""
