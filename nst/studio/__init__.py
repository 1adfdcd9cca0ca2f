"""The studio: a page in the browser that paints, shows and compares runs, by the commands that a shell would use."""
