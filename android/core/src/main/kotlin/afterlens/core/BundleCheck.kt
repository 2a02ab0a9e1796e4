package afterlens.core

import java.io.ByteArrayOutputStream
import java.io.InputStream
import java.security.MessageDigest

/**
 * Reads a bundle that may be damaged or come from a stranger: nothing is handed out before its size and sha256 were
 * compared with model.json, and what is handed out are the very bytes that were compared.
 *
 *     val bundle = BundleCheck(FolderFiles(folder))
 *     val model = bundle.read(bundle.contract.artifacts.first())
 */
class BundleCheck(private val files: BundleFiles) {
    /** Throws a [Fault] where model.json is missing or broken. */
    val contract: Contract = readContract(
        files.open(CONTRACT_FILE)?.use { it.readAtMost(MOST_CONTRACT_BYTES + 1L) } ?: throw missing(CONTRACT_FILE),
    )

    /** The bytes of a file, checked. Throws a [Fault], one line, where it is not what was converted. */
    fun read(entry: BundleEntry): ByteArray {
        val stream = files.open(entry.file) ?: throw missing(entry.file)
        val bytes = stream.use { it.readAtMost(entry.bytes + 1) }
        if (bytes.size.toLong() != entry.bytes) {
            // One byte more was read at most; count the rest for the message.
            val size = files.open(entry.file)?.use { it.count() } ?: 0
            throw wrongSize(entry, size)
        }
        compare(entry, sha256(bytes))
        return bytes
    }

    /** The first way in which a file or a package differs from what was converted, or null. */
    fun fault(entry: BundleEntry): String? = try {
        val inside = files.under(entry.file)
        if (inside.isEmpty()) read(entry) else checkPackage(entry, inside)
        null
    } catch (fault: Fault) {
        fault.message
    }

    /** Every way in which the bundle differs from what was converted, one line a file. */
    fun faults(): List<String> = (contract.artifacts + contract.golden).mapNotNull(::fault)

    private fun checkPackage(entry: BundleEntry, inside: List<String>) {
        var size = 0L
        val listing = StringBuilder()
        for (name in inside.sortedWith(BY_BYTES)) {
            val file = "${entry.file}/$name"
            val digest = MessageDigest.getInstance("SHA-256")
            (files.open(file) ?: throw missing(file)).use { stream -> size += stream.count(digest) }
            listing.append(digest.digest().hex()).append("  ").append(name).append('\n')
        }
        if (size != entry.bytes) throw wrongSize(entry, size)
        compare(entry, sha256(listing.toString().toByteArray()))
    }

    private fun compare(entry: BundleEntry, found: String) {
        if (found != entry.sha256) {
            throw Fault("${entry.file}: its sha256 is $found, $CONTRACT_FILE says ${entry.sha256}")
        }
    }

    private fun wrongSize(entry: BundleEntry, size: Long) =
        Fault("${entry.file}: has $size bytes, $CONTRACT_FILE says ${entry.bytes}")

    private fun missing(name: String) = Fault("$name: is missing")

    private companion object {
        /** As `LC_ALL=C sort` does: by the bytes of the UTF-8 names. (Arrays.compareUnsigned needs Android 13.) */
        val BY_BYTES = Comparator<String> { a, b ->
            val (left, right) = a.toByteArray() to b.toByteArray()
            val different = left.indices.firstOrNull { it >= right.size || left[it] != right[it] }
            when {
                different == null -> left.size - right.size
                different >= right.size -> 1
                else -> (left[different].toInt() and 255) - (right[different].toInt() and 255)
            }
        }
    }
}

private fun sha256(bytes: ByteArray): String = MessageDigest.getInstance("SHA-256").digest(bytes).hex()

private fun ByteArray.hex(): String = joinToString("") { "%02x".format(it) }

/** All of the stream, but no more than [most] bytes: a file may be larger than it should be. (readNBytes: Android 13.) */
private fun InputStream.readAtMost(most: Long): ByteArray {
    val found = ByteArrayOutputStream()
    val buffer = ByteArray(1 shl 16)
    while (found.size() < most) {
        val read = read(buffer, 0, minOf(buffer.size.toLong(), most - found.size()).toInt())
        if (read < 0) break
        found.write(buffer, 0, read)
    }
    return found.toByteArray()
}

/** How many bytes are left; each of them goes into [digest]. */
private fun InputStream.count(digest: MessageDigest? = null): Long {
    val buffer = ByteArray(1 shl 16)
    var total = 0L
    while (true) {
        val read = read(buffer)
        if (read < 0) return total
        digest?.update(buffer, 0, read)
        total += read
    }
}
