"""Record of base models and of built models."""

if __name__ != "factory.registry":
    raise ImportError("import 'factory.registry', not 'registry': the folder has one import name")
