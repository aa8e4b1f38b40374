"""From people, places and cameras to the pixels of one picture."""
