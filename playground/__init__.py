"""The app around core/: runs, pages, pictures, the command line."""
