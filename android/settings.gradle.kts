// The build for people with Android Studio or Gradle; docs/android.md. The other one, by Maven, is what is tested.
pluginManagement {
    repositories {
        google()
        mavenCentral()
        gradlePluginPortal()
    }
}

dependencyResolutionManagement {
    repositoriesMode = RepositoriesMode.FAIL_ON_PROJECT_REPOS
    repositories {
        google()
        mavenCentral()
    }
}

rootProject.name = "afterlens"
include(":core", ":lens", ":app")
