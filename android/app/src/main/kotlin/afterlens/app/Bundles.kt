package afterlens.app

import afterlens.core.BundleCheck
import afterlens.core.BundleFiles
import afterlens.core.Fault
import afterlens.core.FolderFiles
import afterlens.core.Size
import afterlens.lens.runtime.sizes
import android.content.Context
import android.content.res.AssetManager
import java.io.File
import java.io.FileNotFoundException
import java.io.InputStream

/** What a user can choose. */
sealed interface Choice {
    val name: String

    /** A bundle with the size of one of its artifacts. */
    data class Usable(override val name: String, val bundle: BundleCheck, val size: Size) : Choice {
        override fun toString() = "$name $size"
    }

    data class Broken(override val name: String, val reason: String) : Choice {
        override fun toString() = name
    }
}

/** The bundles inside the app, and those in the folder that `adb push` and file managers reach; that one goes first. */
class Bundles(private val context: Context) {
    /** Null where the shared storage is not there. */
    val folder: File? get() = context.getExternalFilesDir(FOLDER)

    fun choices(): List<Choice> = names().flatMap(::choices)

    /** Throws a [Fault] where there is no such bundle, or its model.json is broken. */
    fun open(name: String): BundleCheck {
        val pushed = folder?.let { File(it, name) }?.takeIf(File::isDirectory)
        return BundleCheck(if (pushed != null) FolderFiles(pushed) else AssetFiles(context.assets, "$FOLDER/$name"))
    }

    private fun names(): List<String> {
        val pushed = folder?.listFiles(File::isDirectory).orEmpty().map { it.name }
        val inside = context.assets.list(FOLDER).orEmpty().map { it.substringBefore('/') } // Robolectric lists all below
        return (pushed + inside).distinct().sorted()
    }

    private fun choices(name: String): List<Choice> = try {
        val bundle = open(name)
        val sizes = bundle.contract.sizes()
        if (sizes.isEmpty()) throw Fault("There is no TFLite file in it.")
        sizes.map { Choice.Usable(name, bundle, it) }
    } catch (fault: Fault) {
        listOf(Choice.Broken(name, fault.message.orEmpty()))
    }

    private companion object {
        const val FOLDER = "bundles"
    }
}

/** A bundle inside the APK. */
class AssetFiles(private val assets: AssetManager, private val folder: String) : BundleFiles {
    override fun open(name: String): InputStream? = try {
        assets.open("$folder/$name")
    } catch (_: FileNotFoundException) {
        null
    }

    override fun under(name: String): List<String> = assets.list("$folder/$name").orEmpty().flatMap { entry ->
        under("$name/$entry").map { "$entry/$it" }.ifEmpty { listOf(entry) }
    }
}
