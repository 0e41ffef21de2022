"""The live room: virtual channels, session, camera devices; the only one that knows pymmcore-plus."""
