package afterlens.core

import java.io.File
import java.nio.file.Files
import java.nio.file.Path
import kotlin.random.Random
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir

class BundleCheckTest {
    private val contracts = File(Vectors.folder, "contracts")
    private val expected = Vectors.json("contracts/expected.json")

    private fun bundle(name: String) = BundleCheck(FolderFiles(File(contracts, name)))

    @Test
    fun `whole bundles have no fault`() {
        for (folder in File(contracts, "valid").list()!!) assertEquals(emptyList<String>(), bundle("valid/$folder").faults())
    }

    @Test
    fun `what an app needs is read`() {
        val contract = bundle("valid/photo").contract
        assertEquals("photo", contract.task)
        assertEquals(listOf("tflite", "coreml"), contract.artifacts.map { it.format })
        val input = contract.artifacts.first().inputs.single()
        assertEquals(TensorSpec("image", listOf(1, 2, 4, 3), "NHWC", "float32", 0.0, 1.0, "sRGB", "the photo"), input)
        assertEquals(listOf("input", "output"), contract.golden.map { it.role })
        assertEquals(ProofResult("photo_4x2_float16.tflite", true, 2.5e-4, 71.25), contract.proof!!.results.single())
        assertEquals(null, bundle("valid/clip").contract.proof)
        assertEquals(listOf("current", "previous"), bundle("valid/clip").contract.artifacts.single().inputs.map { it.name })
    }

    @Test
    fun `a camera feeds a frame and the one before it, and no other picture`() {
        val (photo, clip) = listOf("photo", "clip").map { bundle("valid/$it").contract.artifacts.first() }
        assertEquals(listOf(true, true), listOf(photo.isLive, clip.isLive))
        val laid = clip.inputs.map { if (it.name == "previous") it.copy(name = "laid") else it }
        assertEquals(false, clip.copy(inputs = laid).isLive)
        assertEquals(false, photo.copy(inputs = photo.inputs.map { it.copy(kind = "vector") }).isLive)
    }

    @Test
    fun `which frames of a camera a network gets is read, and older bundles do not say it`() {
        assertEquals(CameraFrame.Exact(Size(1280, 720)), bundle("valid/clip").contract.camera)
        assertEquals(CameraFrame.Scaled, bundle("valid/tagged").contract.camera)
        for (older in listOf("photo", "version_1")) assertEquals(CameraFrame.NotSaid, bundle("valid/$older").contract.camera)
    }

    @Test
    fun `what is no image is read`() {
        val contract = bundle("valid/tagged").contract
        val artifact = contract.artifacts.single()
        assertEquals(listOf("image" to "image", "strength" to "vector"), artifact.inputs.map { it.name to it.kind })
        val label = TensorSpec("label", listOf(1, 3), "array", "float32", 0.0, 1.0, "none", "what it shows", "class")
        assertEquals(label, artifact.outputs.single())
        assertEquals(listOf(listOf(2, 4, 3), listOf(1, 4), listOf(1, 3)), contract.golden.map { it.shape })
        assertEquals(null, artifact.selfTestFloor)
        assertEquals(null, contract.proof)
    }

    @Test
    fun `version 1 means the same without kinds, shapes and floors`() {
        val (old, new) = bundle("valid/version_1").contract to bundle("valid/photo").contract
        assertEquals(listOf(45.0, null), new.artifacts.map { it.selfTestFloor })
        assertEquals(new.copy(artifacts = new.artifacts.map { it.copy(selfTestFloor = null) }), old)
    }

    @Test
    fun `broken contracts are refused with the line of the vectors`() {
        val lines = expected.getValue("broken").texts()
        assertEquals(lines.keys, File(contracts, "broken").list()!!.map { it.removeSuffix(".json") }.toSet())
        for ((name, line) in lines) {
            val fault = assertThrows<Fault>(name) { readContract(File(contracts, "broken/$name.json").readBytes()) }
            assertEquals(line, fault.message, name)
        }
    }

    @Test
    fun `damaged files are refused with the line of the vectors`() {
        for ((name, line) in expected.getValue("damaged").texts()) {
            assertEquals(listOf(line), bundle("damaged/$name").faults(), name)
        }
    }

    @Test
    fun `the bytes that were compared are handed out`() {
        val bundle = bundle("valid/photo")
        val file = bundle.contract.artifacts.first()
        assertArrayEquals(File(contracts, "valid/photo/${file.file}").readBytes(), bundle.read(file))
        val damaged = bundle("damaged/changed")
        assertThrows<Fault> { damaged.read(damaged.contract.artifacts.first()) }
    }

    @Test
    fun `a link is refused, whether it is a file or the folder above`(@TempDir folder: Path) {
        val outside = folder.resolve("outside").also { File(contracts, "valid/photo").copyRecursively(it.toFile()) }
        val bundle = folder.resolve("bundle").also { outside.toFile().copyRecursively(it.toFile()) }
        val model = bundle.resolve("photo_4x2_float16.tflite")
        Files.delete(model)
        Files.createSymbolicLink(model, outside.resolve("photo_4x2_float16.tflite"))
        bundle.resolve("golden").toFile().deleteRecursively()
        Files.createSymbolicLink(bundle.resolve("golden"), outside.resolve("golden"))
        val weights = bundle.resolve("photo_4x2_float16.mlpackage/Data/weights.bin")
        Files.delete(weights)
        Files.createSymbolicLink(weights, outside.resolve("photo_4x2_float16.mlpackage/Data/weights.bin"))
        val lines = listOf(
            "photo_4x2_float16.tflite: is a link",
            "photo_4x2_float16.mlpackage/Data/weights.bin: is a link",
            "golden/4x2_input_image.png: is a link",
            "golden/4x2_output_restored.float32: is a link",
        )
        assertEquals(lines, BundleCheck(FolderFiles(bundle.toFile())).faults())
    }

    @Test
    fun `a folder without a contract is refused`(@TempDir folder: Path) {
        assertEquals("model.json: is missing", assertThrows<Fault> { BundleCheck(FolderFiles(folder.toFile())) }.message)
    }

    @Test
    fun `whatever bytes come, only a Fault is thrown`() {
        val whole = File(contracts, "valid/photo/model.json").readBytes()
        val random = Random(7)
        repeat(3000) {
            val bytes = whole.copyOf(if (it % 3 == 0) random.nextInt(whole.size) else whole.size)
            repeat(random.nextInt(1, 4)) { if (bytes.isNotEmpty()) bytes[random.nextInt(bytes.size)] = random.nextInt().toByte() }
            try {
                readContract(bytes)
            } catch (fault: Fault) {
                assertEquals(1, fault.message!!.lines().size, fault.message)
            }
        }
        val deep = "[".repeat(100_000).toByteArray()
        assertEquals("model.json: is not valid JSON", assertThrows<Fault> { readContract(deep) }.message)
        assertThrows<Fault> { readContract(ByteArray(MOST_CONTRACT_BYTES + 1)) }
    }
}
