"""Face detection over HTTP, and a page that shows it, on polyface."""
