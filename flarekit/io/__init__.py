"""How bytes come in and go out: files, settings, terminals, keys, and failures of servers."""
