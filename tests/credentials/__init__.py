"""Where credentials come from, and that their renewal delays no call."""
