package afterlens.lens

import afterlens.core.Artifact
import afterlens.core.BundleCheck
import afterlens.core.FolderFiles
import afterlens.core.Picture
import afterlens.core.decode
import afterlens.lens.runtime.Restorer
import java.io.File
import org.junit.jupiter.api.Assumptions.assumeTrue

/** The bundles that tests/android/bundles.py converted, and what Python's LiteRT computed from their golden inputs. */
internal object TestBundles {
    private val folder = File(System.getProperty("bundles"))

    fun open(task: String): BundleCheck {
        assumeTrue(File(folder, "$task/model.json").exists(), "no bundle of $task: run python -m tests.android.bundles")
        return BundleCheck(FolderFiles(File(folder, task)))
    }

    /** What Python's LiteRT made of the golden input. */
    fun reference(task: String, artifact: Artifact, output: String): FloatArray =
        floats(File(folder, "reference/$task/${artifact.file}.$output.float32"))
}

/** Golden files of an artifact's size. */
internal fun BundleCheck.golden(artifact: Artifact, role: String, tensor: String): Picture =
    contract.golden
        .filter { it.role == role && it.tensor == tensor && it.shape == listOf(artifact.height, artifact.width, 3) }
        .maxBy { it.encoding == "float32" }
        .let { it.decode(read(it), PNG) }

/** Puts the golden inputs in and runs. */
internal fun Restorer.runGolden(bundle: BundleCheck) {
    for (spec in artifact.inputs) {
        val values = bundle.golden(artifact, "input", spec.name).values
        input(spec.name).asFloatBuffer().put(values)
    }
    run()
}
