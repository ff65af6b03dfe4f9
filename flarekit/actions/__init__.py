"""What a fired trigger does, one module an action, and the queries of a look-up."""
