"""What an executor may read: databases and tools that the owner has given a name, never the queue's own."""
