"""A real world for end-to-end tests: a store, an issuer of tokens, a proxy, and a client on raw sockets."""
