"""Stage kinds, one folder each, and the one training engine under them."""

if __name__ != "factory.stages":
    raise ImportError("import 'factory.stages', not 'stages': the folder has one import name")
