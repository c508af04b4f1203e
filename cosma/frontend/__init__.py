"""Model files -> Graph. One module a file format; each is the only user of that format's library."""
