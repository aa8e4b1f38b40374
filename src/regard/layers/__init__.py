"""Building blocks shared by the models: tensors and numbers in, tensors out, one idea per file."""
