"""What a process may do, and how it gives that up: capabilities, users, Landlock, seccomp."""
