"""Real processes around a real store, and everything that can happen to them: killed, full, stepped, restarted."""
