package afterlens.lens.benchmark

import afterlens.core.BundleCheck
import afterlens.core.Fault
import afterlens.core.FolderFiles
import afterlens.core.PngDecoder
import java.io.File
import java.io.IOException

/**
 * Where `afterlens bench --device android` and the app meet: the app's external files, with a bundle in `bundles/NAME`
 * and what comes of it in `benchmarks/`: DOCUMENT.json, or DOCUMENT.error.txt with one line; until then
 * DOCUMENT.progress.txt says what is being done.
 *
 *     BenchmarkFolder(getExternalFilesDir(null)!!).run({ intent.getStringExtra(it) }, state, png) { line -> show(line) }
 *
 * @param kernels a folder that keeps what was compiled for the GPU: an app's codeCacheDir.
 */
class BenchmarkFolder(
    private val root: File,
    private val kernels: File? = null,
    private val liveSeconds: Double = PhoneBenchmark.LIVE_SECONDS,
) {
    private val results = File(root, "benchmarks")

    /** The line that went wrong, or null. Where not even the document's name is given, nothing can be written. */
    fun run(
        extra: (String) -> String?,
        state: DeviceState,
        png: PngDecoder,
        progress: (String) -> Unit,
    ): String? {
        val name = try {
            BenchmarkRequest.name("document", extra)
        } catch (fault: Fault) {
            return fault.message
        }
        return try {
            results.mkdirs()
            val request = BenchmarkRequest.of(extra)
            val bundle = BundleCheck(FolderFiles(File(root, "bundles/${request.bundle}")))
            val document = PhoneBenchmark(bundle, request, state, png, kernels, liveSeconds).run { line ->
                progress(line)
                write("$name.progress.txt", line)
            }
            write("$name.json", document.json())
            null
        } catch (fault: Fault) {
            refused(name, fault.message.orEmpty())
        } catch (error: Throwable) { // a driver, memory, a fault of ours: the computer that waits must hear of it
            refused(name, "$error")
        }
    }

    private fun refused(name: String, message: String): String {
        val line = message.trim().replace(Regex("\\s+"), " ")
        write("$name.error.txt", line)
        return line
    }

    /** Whole or not at all: whoever waits for the name finds all of it. */
    private fun write(name: String, text: String) {
        val temporary = File(results, "$name.part")
        temporary.writeText(text)
        if (!temporary.renameTo(File(results, name))) throw IOException("$name: cannot be written")
    }
}
