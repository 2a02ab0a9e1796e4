package afterlens.app.camera

import afterlens.core.Size
import android.graphics.SurfaceTexture
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraManager
import kotlin.math.abs

/** One of the device's cameras. */
data class Lens(val id: String, val front: Boolean, val orientation: Int, val sizes: List<Size>)

/** The cameras that give frames to a SurfaceTexture, the back ones first. */
fun CameraManager.lenses(): List<Lens> = try {
    cameraIdList.mapNotNull(::lens).sortedBy { it.front }
} catch (_: CameraAccessException) {
    emptyList() // the service is down: as if there were none, until the user tries again
}

private fun CameraManager.lens(id: String): Lens? {
    val camera = getCameraCharacteristics(id)
    val sizes = camera[CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP]
        ?.getOutputSizes(SurfaceTexture::class.java)
        ?: return null
    val front = camera[CameraCharacteristics.LENS_FACING] == CameraCharacteristics.LENS_FACING_FRONT
    return Lens(id, front, camera[CameraCharacteristics.SENSOR_ORIENTATION] ?: 0, sizes.map { Size(it.width, it.height) })
}

/** The wanted size; else the smallest of the same shape that is larger; else the one with the most similar number of pixels. */
fun nearest(sizes: List<Size>, wanted: Size): Size {
    fun Size.pixels() = width * height
    val sameShape = sizes.filter { it.width * wanted.height == it.height * wanted.width && it.pixels() >= wanted.pixels() }
    return sameShape.minByOrNull { it.pixels() } ?: sizes.minBy { abs(it.pixels() - wanted.pixels()) }
}
