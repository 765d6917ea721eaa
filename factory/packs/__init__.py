"""What domain packs share: generated items, options, rows on disk as items. Third-party packs may use it as the built-in ones do."""
