"""Domain packs, one folder each."""

if __name__ != "factory.domains":
    raise ImportError("import 'factory.domains', not 'domains': the folder has one import name")
