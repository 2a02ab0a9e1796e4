package afterlens.core

/**
 * A linear map of the plane about the middle (0.5, 0.5) of a frame, in coordinates from 0 to 1 with y down: all that
 * turning, mirroring, cropping and fitting need.
 */
data class Affine(val xx: Double, val xy: Double, val yx: Double, val yy: Double) {
    /** This map after [first]. */
    operator fun times(first: Affine) = Affine(
        xx * first.xx + xy * first.yx,
        xx * first.xy + xy * first.yy,
        yx * first.xx + yy * first.yx,
        yx * first.xy + yy * first.yy,
    )

    fun inverse(): Affine {
        val determinant = xx * yy - xy * yx
        return Affine(yy / determinant, -xy / determinant, -yx / determinant, xx / determinant)
    }

    /** Where (x, y) goes. */
    fun map(x: Double, y: Double): Pair<Double, Double> {
        val (across, down) = x - 0.5 to y - 0.5
        return xx * across + xy * down + 0.5 to yx * across + yy * down + 0.5
    }

    /** 4x4, column by column, as OpenGL takes it. */
    fun columns(): FloatArray {
        val (x, y) = map(0.0, 0.0)
        val columns = doubleArrayOf(xx, yx, 0.0, 0.0, xy, yy, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, x, y, 0.0, 1.0)
        return FloatArray(16) { columns[it].toFloat() }
    }

    companion object {
        val IDENTITY = Affine(1.0, 0.0, 0.0, 1.0)

        fun scaled(x: Double, y: Double) = Affine(x, 0.0, 0.0, y)

        /** From the upright picture back into the frame that was turned by [degrees] clockwise. */
        fun unturned(degrees: Int): Affine = when (degrees) {
            0 -> IDENTITY
            90 -> Affine(0.0, 1.0, -1.0, 0.0)
            180 -> Affine(-1.0, 0.0, 0.0, -1.0)
            270 -> Affine(0.0, -1.0, 1.0, 0.0)
            else -> throw IllegalArgumentException("got $degrees degrees, expected 0, 90, 180 or 270")
        }
    }
}
