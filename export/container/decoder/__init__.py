"""From a container back to the `.tflite`, with numpy and zlib or the compiled C."""
