"""The operating system as a server meets it: threads, files, permissions, descriptors, standard streams, shortages."""
