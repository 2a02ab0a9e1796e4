package afterlens.app.camera

import afterlens.app.service
import afterlens.core.Size
import afterlens.core.uprightRotation
import afterlens.lens.live.CameraProblem
import afterlens.lens.live.FrameFormat
import afterlens.lens.live.FrameSource
import afterlens.lens.live.FrameTexture
import android.annotation.SuppressLint
import android.content.Context
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.hardware.camera2.params.OutputConfiguration
import android.hardware.camera2.params.SessionConfiguration
import android.hardware.display.DisplayManager
import android.os.Handler
import android.os.Looper
import android.util.Log
import android.view.Display
import android.view.Surface

/** A camera by Camera2. The permission must have been given. */
class Camera2Source(context: Context, private val lens: Lens) : FrameSource {
    private val cameras = context.service<CameraManager>()
    private val displays = context.service<DisplayManager>()
    private val executor = context.mainExecutor
    private var open: Opened? = null

    @Synchronized
    override fun start(texture: FrameTexture, wanted: Size, listener: FrameSource.Listener) {
        close()
        val size = nearest(lens.sizes, wanted)
        open = Opened(texture.surface(size), size, listener).also(Opened::begin)
    }

    @Synchronized
    override fun close() {
        open?.end()
        open = null
    }

    /** One start. Its callbacks come on the main thread, also after its end. */
    private inner class Opened(
        private val surface: Surface,
        private val size: Size,
        private val listener: FrameSource.Listener,
    ) : CameraDevice.StateCallback(), DisplayManager.DisplayListener {
        private var device: CameraDevice? = null
        private val isOver get() = open !== this

        @SuppressLint("MissingPermission") // asked for by the activity; a SecurityException if it was taken back
        fun begin() = orFailed {
            displays.registerDisplayListener(this, Handler(Looper.getMainLooper()))
            listener.started(format())
            cameras.openCamera(lens.id, executor, this)
        }

        fun end() {
            displays.unregisterDisplayListener(this)
            device?.close() // and with it its session
            device = null
            surface.release()
        }

        override fun onOpened(camera: CameraDevice) = synchronized(this@Camera2Source) {
            if (isOver) return camera.close()
            device = camera
            orFailed {
                val outputs = listOf(OutputConfiguration(surface))
                camera.createCaptureSession(
                    SessionConfiguration(SessionConfiguration.SESSION_REGULAR, outputs, executor, session(camera)),
                )
            }
        }

        override fun onDisconnected(camera: CameraDevice) = gone(camera, CameraProblem.TAKEN)

        override fun onError(camera: CameraDevice, error: Int) = gone(
            camera,
            when (error) {
                ERROR_CAMERA_IN_USE, ERROR_MAX_CAMERAS_IN_USE -> CameraProblem.TAKEN
                ERROR_CAMERA_DISABLED -> CameraProblem.FORBIDDEN
                else -> CameraProblem.BROKEN
            },
        )

        override fun onDisplayChanged(displayId: Int) = synchronized(this@Camera2Source) {
            if (!isOver && displayId == Display.DEFAULT_DISPLAY) listener.started(format())
        }

        override fun onDisplayAdded(displayId: Int) = Unit

        override fun onDisplayRemoved(displayId: Int) = Unit

        private fun session(camera: CameraDevice) = object : CameraCaptureSession.StateCallback() {
            override fun onConfigured(session: CameraCaptureSession) = synchronized(this@Camera2Source) {
                if (isOver) return
                orFailed {
                    val request = camera.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW).apply { addTarget(surface) }
                    session.setRepeatingRequest(request.build(), null, null)
                }
            }

            override fun onConfigureFailed(session: CameraCaptureSession) = gone(camera, CameraProblem.BROKEN)
        }

        private fun gone(camera: CameraDevice, problem: CameraProblem) = synchronized(this@Camera2Source) {
            camera.close()
            if (isOver) return
            this@Camera2Source.close()
            listener.failed(problem)
        }

        private fun format(): FrameFormat {
            val degrees = displays.getDisplay(Display.DEFAULT_DISPLAY).rotation * 90
            return FrameFormat(size, uprightRotation(lens.orientation, degrees, lens.front), lens.front)
        }

        private fun orFailed(work: () -> Unit) = try {
            work()
        } catch (error: CameraAccessException) {
            listener.failed(problem(error))
        } catch (_: SecurityException) {
            listener.failed(CameraProblem.FORBIDDEN)
        } catch (error: IllegalArgumentException) { // unplugged since it was listed, or its surface is gone
            broken(error)
        } catch (error: IllegalStateException) { // closed by the system meanwhile
            broken(error)
        }

        private fun broken(error: Exception) {
            Log.w("afterlens", "camera ${lens.id}", error)
            listener.failed(CameraProblem.BROKEN)
        }
    }
}

private fun problem(error: CameraAccessException) = when (error.reason) {
    CameraAccessException.CAMERA_IN_USE, CameraAccessException.MAX_CAMERAS_IN_USE -> CameraProblem.TAKEN
    CameraAccessException.CAMERA_DISABLED -> CameraProblem.FORBIDDEN
    else -> CameraProblem.BROKEN
}
