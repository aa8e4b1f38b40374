"""Service: what answers behind ``regard serve``, and its page."""
