"""Videos for polyface: frames as items, videos as what is written."""
