package afterlens.lens.runtime

import afterlens.core.Fault

/** The processor that runs an artifact. */
enum class Processor { CPU, GPU }

/**
 * What runs an artifact, to be shown to the user.
 *
 * @param name such as "GPU" or "XNNPACK, 4 threads".
 * @param insteadOf why it is not the processor that was asked for; null where it is.
 */
data class Accelerator(val processor: Processor, val name: String, val insteadOf: String? = null)

/** The GPU does not take this artifact; the CPU may. */
class GpuRefused(message: String) : Fault(message)
