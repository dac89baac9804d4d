"""What a plugin's author imports: records, protocols, hooks, and the manager that finds them."""
