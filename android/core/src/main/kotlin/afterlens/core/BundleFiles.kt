package afterlens.core

import java.io.File
import java.io.InputStream
import java.nio.file.Files

/** Where a bundle's bytes come from: a folder, or an app's assets. Names are relative, with slashes. */
interface BundleFiles {
    /** Null where there is no such file. Throws a [Fault] for a link. */
    fun open(name: String): InputStream?

    /** The files below a folder, named from within it; empty where it is none. */
    fun under(name: String): List<String>
}

/** A bundle in a folder. */
class FolderFiles(private val folder: File) : BundleFiles {
    override fun open(name: String): InputStream? {
        var file = folder
        for (part in name.split('/')) {
            file = File(file, part)
            if (Files.isSymbolicLink(file.toPath())) throw Fault("$name: is a link")
        }
        return if (file.isFile) file.inputStream() else null
    }

    override fun under(name: String): List<String> {
        val top = File(folder, name)
        if (Files.isSymbolicLink(top.toPath())) throw Fault("$name: is a link")
        return top.walkTopDown()
            .onEnter { it == top || !Files.isSymbolicLink(it.toPath()) }
            .filter { it != top && (!it.isDirectory || Files.isSymbolicLink(it.toPath())) }
            .map { it.relativeTo(top).invariantSeparatorsPath }
            .toList()
    }
}
