"""Facts of this computer and of this process; nothing else reads /proc."""
