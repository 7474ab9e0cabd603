"""What a folder is, by its names and the beginnings of a few of its files; a module a layout."""
