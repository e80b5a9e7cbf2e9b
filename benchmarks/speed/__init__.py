"""Speed, as the ratio to a peer in the same run, one CPU pinned unless said."""
