package afterlens.app

import afterlens.core.BundleCheck
import afterlens.core.FolderFiles
import afterlens.core.Picture
import android.Manifest
import android.app.Activity
import android.app.Application
import android.content.Context
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Canvas
import android.graphics.ImageFormat
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraManager
import android.net.Uri
import android.os.Looper
import android.util.Size
import android.view.View
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowCameraCharacteristics
import org.robolectric.shadows.StreamConfigurationMapBuilder

/** The device that Robolectric plays. */
object Device {
    val app: Application get() = RuntimeEnvironment.getApplication()
    private val vectors = File(checkNotNull(System.getProperty("vectors")))
    private val bundles = File(checkNotNull(System.getProperty("bundles")))
    private val references = File(bundles, "reference/udc")
    private val screenshots = File(checkNotNull(System.getProperty("screenshots")))

    /** Does what waits on the main thread. */
    fun idle() = shadowOf(Looper.getMainLooper()).idle()

    /** Goes on until the other threads have done their part. */
    fun waitFor(what: String, isThere: () -> Boolean) {
        val end = System.nanoTime() + 60_000_000_000
        while (!isThere()) {
            check(System.nanoTime() < end) { "waited a minute for: $what" }
            Thread.sleep(5)
            idle()
        }
    }

    /** Lets the OpenGL thread and the model's do what they were given, and then the main thread what they gave it. */
    fun finishThreads() {
        idle()
        Thread.sleep(50)
        waitFor("the other threads to rest") { ownThreads().none { it.state == Thread.State.RUNNABLE } }
    }

    /** Of the live preview. */
    fun ownThreads() = Thread.getAllStackTraces().keys.filter { it.name in listOf("OpenGL", "model", "closing") }

    fun allowCamera() = shadowOf(app).grantPermissions(Manifest.permission.CAMERA)

    fun addCamera(id: String, facing: Int) {
        val camera = ShadowCameraCharacteristics.newCameraCharacteristics()
        val sizes = StreamConfigurationMapBuilder.newBuilder()
        for (size in listOf(Size(1920, 1080), Size(1280, 720), Size(640, 480))) sizes.addOutputSize(ImageFormat.PRIVATE, size)
        shadowOf(camera).apply {
            set(CameraCharacteristics.LENS_FACING, facing)
            set(CameraCharacteristics.SENSOR_ORIENTATION, 90)
            set(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP, sizes.build())
        }
        shadowOf(cameras).addCamera(id, camera)
    }

    val cameras: CameraManager get() = app.getSystemService(Context.CAMERA_SERVICE) as CameraManager

    /** As `adb push` does; with a broken model.json where there is [text]. */
    fun push(name: String, text: String? = null) {
        val folder = File(app.getExternalFilesDir("bundles"), name)
        File(vectors, "contracts/valid/photo").copyRecursively(folder, overwrite = true)
        if (text != null) File(folder, "model.json").writeText(text)
    }

    /** A bundle that tests/android/bundles.py converted. */
    fun pushConverted(name: String) = File(bundles, name).copyRecursively(File(app.getExternalFilesDir("bundles"), name))

    fun contract() = BundleCheck(FolderFiles(File(vectors, "contracts/valid/photo"))).contract

    /** A camera's frame. */
    fun photo(): Bitmap = BitmapFactory.decodeFile("${File(vectors, "golden/sensor.png")}")

    /** What the picker hands out for a file with these bytes. */
    fun picked(bytes: ByteArray = File(vectors, "golden/sensor.png").readBytes()): Uri = Uri.parse("content://photos/1").also {
        shadowOf(app.contentResolver).registerInputStream(it, bytes.inputStream())
    }

    fun restoredPhotoFile() = File(references, "photo.png")

    /** A photo that an under-display camera took, and what the network made of it (tests/android/bundles.py). */
    fun restoredPhoto(): Pair<Bitmap, Bitmap> {
        val before = BitmapFactory.decodeFile("${restoredPhotoFile()}")
        val bytes = ByteBuffer.wrap(File(references, "photo.float32").readBytes()).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
        val values = FloatArray(bytes.remaining()).also(bytes::get)
        return before to Picture(before.width, before.height, values).bitmap()
    }

    /** What an activity shows, also as a file to look at. [behind] stands in for the camera's picture. */
    fun screenshot(activity: Activity, name: String, behind: View? = null): Bitmap {
        idle()
        val view: View = activity.window.decorView
        val picture = Bitmap.createBitmap(view.width, view.height, Bitmap.Config.ARGB_8888)
        for (drawn in listOfNotNull(behind, view)) {
            // Robolectric lays nothing out anew of its own accord.
            drawn.measure(exactly(view.width), exactly(view.height))
            drawn.layout(0, 0, view.width, view.height)
            drawn.draw(Canvas(picture))
        }
        screenshots.mkdirs()
        File(screenshots, "$name.png").outputStream().use { picture.compress(Bitmap.CompressFormat.PNG, 100, it) }
        return picture
    }

    private fun exactly(pixels: Int) = View.MeasureSpec.makeMeasureSpec(pixels, View.MeasureSpec.EXACTLY)
}
