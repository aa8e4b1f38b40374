"""Web: the service behind ``regard serve``, and its page."""
