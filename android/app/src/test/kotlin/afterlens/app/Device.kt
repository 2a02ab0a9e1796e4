package afterlens.app

import afterlens.core.BundleCheck
import afterlens.core.FolderFiles
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
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowCameraCharacteristics
import org.robolectric.shadows.StreamConfigurationMapBuilder

/** The device that Robolectric plays. */
object Device {
    val app: Application get() = RuntimeEnvironment.getApplication()
    private val vectors = File(checkNotNull(System.getProperty("vectors")))
    private val screenshots = File(checkNotNull(System.getProperty("screenshots")))

    /** Does what waits on the main thread. */
    fun idle() = shadowOf(Looper.getMainLooper()).idle()

    /** Goes on until the other threads have done their part. */
    fun waitFor(what: String, isThere: () -> Boolean) {
        val end = System.nanoTime() + 10_000_000_000
        while (!isThere()) {
            check(System.nanoTime() < end) { "waited 10 s for: $what" }
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

    fun contract() = BundleCheck(FolderFiles(File(vectors, "contracts/valid/photo"))).contract

    /** A camera's frame. */
    fun photo(): Bitmap = BitmapFactory.decodeFile("${File(vectors, "golden/sensor.png")}")

    /** The same as the picker hands it out. */
    fun photoFile(): Uri = Uri.fromFile(File(vectors, "golden/sensor.png"))

    /** What an activity shows, also as a file to look at. */
    fun screenshot(activity: Activity, name: String): Bitmap {
        val view: View = activity.window.decorView
        val picture = Bitmap.createBitmap(view.width, view.height, Bitmap.Config.ARGB_8888)
        view.draw(Canvas(picture))
        screenshots.mkdirs()
        File(screenshots, "$name.png").outputStream().use { picture.compress(Bitmap.CompressFormat.PNG, 100, it) }
        return picture
    }
}
