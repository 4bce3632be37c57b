//! What every service process does the same way: configuration, crypto provider, listener, drain.
