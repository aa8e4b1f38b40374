"""People as shapes: bones, tubes around them, and the mesh that is drawn."""
