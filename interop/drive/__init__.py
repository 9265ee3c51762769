"""What the rows drive: child processes, nodes, signers."""
