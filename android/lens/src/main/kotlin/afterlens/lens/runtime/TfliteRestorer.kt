package afterlens.lens.runtime

import afterlens.core.Artifact
import afterlens.core.BundleCheck
import afterlens.core.Fault
import afterlens.core.SIGNATURE
import afterlens.core.TensorSpec
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.tensorflow.lite.Delegate
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.Tensor
import org.tensorflow.lite.gpu.GpuDelegate
import org.tensorflow.lite.gpu.GpuDelegateFactory

/** An artifact in the TFLite interpreter. */
class TfliteRestorer private constructor(
    override val artifact: Artifact,
    override val accelerator: Accelerator,
    private val interpreter: Interpreter,
    private val delegate: Delegate?,
) : Restorer {
    private val owner = Thread.currentThread()
    private val inputs = buffers(artifact.inputs, interpreter.getSignatureInputs(SIGNATURE), "input") {
        interpreter.getInputTensorFromSignature(it, SIGNATURE)
    }
    private val outputs = buffers(artifact.outputs, interpreter.getSignatureOutputs(SIGNATURE), "output") {
        interpreter.getOutputTensorFromSignature(it, SIGNATURE)
    }

    override fun input(name: String): ByteBuffer = named(inputs, name)

    override fun output(name: String): ByteBuffer = named(outputs, name)

    override fun run() {
        // TFLite only says "GpuDelegate must run on the same thread where it was initialized", and the CPU crashes.
        check(Thread.currentThread() === owner) {
            "${artifact.file}: called on ${Thread.currentThread().name}, belongs to ${owner.name}"
        }
        inputs.values.forEach(ByteBuffer::rewind)
        outputs.values.forEach(ByteBuffer::rewind)
        interpreter.runSignature(inputs, outputs, SIGNATURE)
    }

    override fun close() {
        interpreter.close()
        delegate?.close() // after the interpreter that uses it
    }

    private fun named(buffers: Map<String, ByteBuffer>, name: String): ByteBuffer {
        val buffer = requireNotNull(buffers[name]) { "no tensor $name, there are ${buffers.keys.joinToString()}" }
        return buffer.apply { rewind() }
    }

    /** Memory for each tensor. Throws a [Fault] where the file has other tensors than the contract says. */
    private fun buffers(
        specs: List<TensorSpec>,
        names: Array<String>,
        side: String,
        tensor: (String) -> Tensor,
    ): Map<String, ByteBuffer> {
        if (names.toSet() != specs.map { it.name }.toSet()) {
            throw Fault("${artifact.file}: its ${side}s are ${names.sorted()}, model.json says ${specs.map { it.name }.sorted()}")
        }
        return specs.associate { spec ->
            val found = tensor(spec.name)
            val got = "${found.dataType().name.lowercase()} ${found.shape().toList()}"
            val expected = "${spec.dtype} ${spec.shape}"
            if (got != expected) throw Fault("${artifact.file}: $side ${spec.name} is $got, model.json says $expected")
            spec.name to ByteBuffer.allocateDirect(found.numBytes()).order(ByteOrder.nativeOrder())
        }
    }

    companion object {
        /** On the CPU, by XNNPACK. Throws a [Fault] where the file is damaged or not what the contract says. */
        fun onCpu(bundle: BundleCheck, artifact: Artifact, threads: Int, insteadOf: String? = null): TfliteRestorer {
            val name = if (threads == 1) "XNNPACK, 1 thread" else "XNNPACK, $threads threads"
            val options = Interpreter.Options().setUseXNNPACK(true).setNumThreads(threads)
            return open(bundle, artifact, options, null, Accelerator(Processor.CPU, name, insteadOf))
        }

        /**
         * On the GPU. Throws [GpuRefused] where the delegate does not take the device or the graph, and any other
         * [Fault] where the file is damaged or not what the contract says.
         *
         * @param halfFloats lets the GPU compute in float16, which is what makes it fast.
         * @param backend null for OpenCL, or OpenGL where there is none.
         * @param kernels a folder that keeps what was compiled for the GPU, which takes seconds, for the next time; an app's
         *   codeCacheDir. Null compiles anew.
         */
        fun onGpu(
            bundle: BundleCheck,
            artifact: Artifact,
            halfFloats: Boolean = true,
            backend: GpuDelegateFactory.Options.GpuBackend? = null,
            kernels: File? = null,
        ): TfliteRestorer {
            val delegate = try {
                val wanted = GpuDelegateFactory.Options().setPrecisionLossAllowed(halfFloats)
                if (backend != null) wanted.setForceBackend(backend)
                if (kernels != null) wanted.setSerializationParams(kernels.path, artifact.sha256)
                GpuDelegate(wanted)
            } catch (error: UnsatisfiedLinkError) {
                throw GpuRefused("the GPU library is missing (${line(error)})")
            }
            val options = Interpreter.Options().setUseXNNPACK(false).addDelegate(delegate)
            val name = if (halfFloats) "GPU, float16" else "GPU, float32"
            try {
                return open(bundle, artifact, options, delegate, Accelerator(Processor.GPU, name))
            } catch (fault: Fault) {
                delegate.close()
                throw fault
            }
        }

        private fun open(
            bundle: BundleCheck,
            artifact: Artifact,
            options: Interpreter.Options,
            delegate: Delegate?,
            accelerator: Accelerator,
        ): TfliteRestorer {
            var interpreter: Interpreter? = null
            try {
                val bytes = bundle.read(artifact)
                val model = ByteBuffer.allocateDirect(bytes.size).order(ByteOrder.nativeOrder()).put(bytes)
                model.rewind()
                interpreter = Interpreter(model, options)
                return TfliteRestorer(artifact, accelerator, interpreter, delegate)
            } catch (error: IllegalArgumentException) {
                interpreter?.close()
                val message = "${artifact.file}: TFLite refuses it on the ${accelerator.processor} (${line(error)})"
                throw if (delegate == null) Fault(message) else GpuRefused(message)
            } catch (fault: Fault) {
                interpreter?.close()
                throw fault
            }
        }

        private fun line(error: Throwable) = error.message.orEmpty().trim().replace(Regex("\\s+"), " ")
    }
}
