package afterlens.lens.runtime

import afterlens.core.Artifact
import afterlens.core.BundleCheck
import afterlens.core.Contract
import afterlens.core.Fault
import afterlens.core.Size
import java.io.File

/** The variants for a processor, the best first: GPUs compute in half floats, CPUs are fastest with 8-bit integers. */
private fun preferred(processor: Processor): List<String> = when (processor) {
    Processor.GPU -> listOf("float16", "float32")
    Processor.CPU -> listOf("mixed", "full_integer_quant", "dynamic_range_quant", "float32", "float16")
}

/** The sizes that a contract has TFLite artifacts of. */
fun Contract.sizes(): List<Size> =
    artifacts.filter { it.format == "tflite" }.map { Size(it.width, it.height) }.distinct()

/** An artifact of this size, to know what goes in and out. Throws a [Fault] where there is none. */
fun Contract.artifactOf(size: Size): Artifact =
    artifacts.firstOrNull { it.format == "tflite" && it.width == size.width && it.height == size.height }
        ?: throw Fault("$task: no TFLite artifact of $size, there are ${sizes().joinToString()}")

/** The best artifact of a size for a processor. Throws a [Fault] where there is none. */
fun Contract.artifactFor(processor: Processor, size: Size): Artifact = best(processor, size)
    ?: throw Fault("$task: no TFLite artifact of $size for the $processor, there are ${sizes().joinToString()}")

private fun Contract.best(processor: Processor, size: Size): Artifact? {
    val variants = preferred(processor)
    return artifacts
        .filter { it.format == "tflite" && it.width == size.width && it.height == size.height && it.variant in variants }
        .minByOrNull { variants.indexOf(it.variant) }
}

/**
 * Opens the best artifact on the wanted processor. Where the GPU refuses, or the bundle has none for it, the CPU takes
 * over, with the reason in [Accelerator.insteadOf], to be shown. Call it on the [ModelThread].
 *
 * @param kernels see [TfliteRestorer.onGpu].
 */
fun openRestorer(
    bundle: BundleCheck,
    size: Size,
    wanted: Processor,
    threads: Int,
    kernels: File? = null,
    onGpu: (BundleCheck, Artifact) -> Restorer = { checked, artifact ->
        TfliteRestorer.onGpu(checked, artifact, kernels = kernels)
    },
): Restorer {
    var reason: String? = null
    if (wanted == Processor.GPU) {
        try {
            val artifact = bundle.contract.best(Processor.GPU, size)
                ?: throw GpuRefused("${bundle.contract.task}: no float artifact of $size for it")
            return onGpu(bundle, artifact)
        } catch (fault: GpuRefused) {
            reason = fault.message
        }
    }
    return TfliteRestorer.onCpu(bundle, bundle.contract.artifactFor(Processor.CPU, size), threads, reason)
}
