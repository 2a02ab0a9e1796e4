package afterlens.lens.runtime

import afterlens.core.Artifact
import java.nio.ByteBuffer

/**
 * A loaded artifact. It belongs to the thread that opened it, see [ModelThread]; nothing is allocated after that.
 *
 *     restorer.input("image").put(...)          // float32 in the layout and range that the contract says
 *     restorer.run()
 *     restorer.output("restored").get(...)
 */
interface Restorer : AutoCloseable {
    val artifact: Artifact

    /** What really runs. */
    val accelerator: Accelerator

    /** The memory of an input, in native order, rewound. */
    fun input(name: String): ByteBuffer

    /** Computes the outputs from what lies in the inputs. */
    fun run()

    /** The memory of an output, in native order, rewound. */
    fun output(name: String): ByteBuffer
}
