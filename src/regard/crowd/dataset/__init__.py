"""The crowd as a folder: what was asked for, what is planned, made and written."""
