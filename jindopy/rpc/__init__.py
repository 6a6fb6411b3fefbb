"""How the processes of a cluster talk: messages (``v1``), channels, servers, and errors on both ends of a call."""
