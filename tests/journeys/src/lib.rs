//! What people do with Obscura, from end to end against real servers.
