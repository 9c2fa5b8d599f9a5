"""Models as files for other runtimes: converted, compared with torch, opened again."""
