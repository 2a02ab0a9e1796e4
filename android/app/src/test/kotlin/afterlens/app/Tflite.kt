package afterlens.app

import java.io.File

/** Loads the C library that Android's TFLite asks for (tests/android/native); the runtime itself is found by its path. */
internal object Tflite {
    init {
        val folder = File(checkNotNull(System.getProperty("native")))
        for (name in listOf("c", "m", "dl", "log")) System.load(File(folder, "lib$name.so").absolutePath)
    }

    /** Done once; later calls do nothing. */
    fun load() = Unit
}
