package afterlens.lens

import java.io.File

/** Loads what stands in for Android's own libraries (tests/android/native), in the order in which they need each other. */
internal object Native {
    init {
        val folder = File(System.getProperty("native"))
        for (name in listOf("EGL", "GLESv3", "c", "m", "dl", "log", "OpenCL", "gl_natives")) {
            System.load(File(folder, "lib$name.so").absolutePath)
        }
    }

    /** Done once; later calls do nothing. */
    fun load() = Unit
}
