@echo off
rem Installs CellSeg and puts it into CellProfiler and Fiji: double-click it. UNTRIED: no Windows
rem was at hand. See README.md beside this file; Linux and macOS have a script of their own.
rem
rem   "Install CellSeg (Windows).bat" [FOLDER OF FIJI] [PLUGINS DIRECTORY OF CELLPROFILER]
rem   "Install CellSeg (Windows).bat" /uninstall
rem
rem All that it makes lies in %LOCALAPPDATA%\cellseg-bridges\installer; no administrator is needed.

setlocal EnableExtensions DisableDelayedExpansion
chcp 65001 >nul
set "TASK=install"
set "PACKAGE=cellseg-engine"
set "PYTHONS=>=3.11,<3.14"
set "PARENT=%LOCALAPPDATA%\cellseg-bridges"
set "DATA=%PARENT%\installer"
set "ENVIRONMENT=%DATA%\environment"
set "PYTHON=%ENVIRONMENT%\Scripts\python.exe"
set "CELLSEG=%ENVIRONMENT%\Scripts\cellseg.exe"
set "HOSTS=%DATA%\hosts.txt"
set "MARKER=%DATA%\made-by-cellseg-installer"
set "PYTHONPATH="
set "PYTHONHOME="
set "PYTHONUTF8=1"
if /i "%~1"=="/uninstall" goto uninstall

set "WHEEL="
for %%W in ("%~dp0cellseg_engine-*.whl") do set "WHEEL=%%~fW"
if not defined WHEEL (set "WHY=there is no cellseg_engine-....whl in %~dp0; put it beside this file." & goto failed)
set "FIJI=%~1"
set "PLUGINS=%~2"
if not defined FIJI set "FIJI=%FIJI_HOME%"
if not exist "%DATA%\" mkdir "%DATA%" || (set "WHY=the folder %DATA% cannot be made." & goto failed)
if not exist "%MARKER%" (
    dir /b /a "%DATA%" | findstr . >nul && (
        set "WHY=%DATA% is there already and is not from this installer." & goto failed
    )
    type nul > "%MARKER%"
)
if not defined UV_CACHE_DIR set "UV_CACHE_DIR=%DATA%\cache"
if not defined UV_PYTHON_INSTALL_DIR set "UV_PYTHON_INSTALL_DIR=%DATA%\python"

set "UV="
for /f "delims=" %%P in ('where uv 2^>nul') do if not defined UV set "UV=%%P"
if not defined UV if exist "%DATA%\uv\uv.exe" set "UV=%DATA%\uv\uv.exe"
if not defined UV if exist "%USERPROFILE%\.local\bin\uv.exe" set "UV=%USERPROFILE%\.local\bin\uv.exe"
if defined UV goto environment
echo == Getting uv, which installs Python packages (https://astral.sh/uv/install.ps1)
set "UV_UNMANAGED_INSTALL=%DATA%\uv"
powershell -NoProfile -ExecutionPolicy ByPass -Command "irm https://astral.sh/uv/install.ps1 | iex"
set "UV=%DATA%\uv\uv.exe"
if not exist "%UV%" (set "WHY=uv could not be downloaded. Is there a connection to the internet?" & goto failed)

:environment
if exist "%PYTHON%" goto engine
echo == Making an environment for the engine
"%UV%" venv --seed --python "%PYTHONS%" "%ENVIRONMENT%"
if errorlevel 1 (set "WHY=no Python could be found or downloaded; see above." & goto failed)

:engine
echo == Installing the engine. PyTorch is large: this may take some minutes.
call :end_engine
rem By its path: by its name an index would be asked, where anyone may have registered it.
"%UV%" pip install --python "%PYTHON%" --torch-backend auto --reinstall-package %PACKAGE% "%WHEEL%[service]"
if errorlevel 1 (set "WHY=the packages could not be installed; see above." & goto failed)
"%CELLSEG%" --version
if errorlevel 1 (set "WHY=the engine was installed but does not run; see above." & goto failed)
if exist "%DATA%\cache\" rmdir /s /q "%DATA%\cache"
set "FAILED="

echo == CellProfiler
if not defined PLUGINS for /f "delims=" %%P in ('call "%PYTHON%" -c "from cellseg_engine.hosts.cellprofiler import read_plugins_directory as r; f = r(); print(f if f and f.is_dir() else '')"') do set "PLUGINS=%%P"
if not defined PLUGINS set /p "PLUGINS=CellProfiler's plugins directory (only Enter leaves it out): "
if not defined PLUGINS (echo No folder is known, so CellProfiler is left out. & goto fiji)
set "PLUGINS=%PLUGINS:"=%"
"%CELLSEG%" install cellprofiler --plugins-directory "%PLUGINS%"
if errorlevel 1 set "FAILED=CellProfiler"
if exist "%PLUGINS%\_cellseg\installed.json" >> "%HOSTS%" echo cellprofiler="%PLUGINS%"

:fiji
echo == Fiji
for %%F in ("%USERPROFILE%\Fiji.app" "%USERPROFILE%\Fiji" "%USERPROFILE%\Desktop\Fiji.app" "%USERPROFILE%\Desktop\Fiji" "%USERPROFILE%\Downloads\Fiji.app" "%USERPROFILE%\Downloads\Fiji" "C:\Fiji.app" "C:\Fiji") do if not defined FIJI if exist "%%~F\jars\" if exist "%%~F\plugins\" set "FIJI=%%~F"
if not defined FIJI set /p "FIJI=Folder of your Fiji (only Enter leaves it out): "
if not defined FIJI (echo No folder is known, so Fiji is left out. & goto end)
set "FIJI=%FIJI:"=%"
"%CELLSEG%" install fiji "%FIJI%"
if errorlevel 1 set "FAILED=%FAILED% Fiji"
if exist "%FIJI%\cellseg-installed.json" >> "%HOSTS%" echo fiji="%FIJI%"

:end
echo.
if defined FAILED (
    echo The engine is installed in %DATA%, but this could not be set up: %FAILED%; see above.
    pause
    exit /b 1
)
echo CellSeg is installed in %DATA%. Restart CellProfiler and Fiji to see it.
pause
exit /b 0

:failed
echo.
echo CellSeg was not %TASK%ed: %WHY%
pause
exit /b 1

:uninstall
set "TASK=uninstall"
if not exist "%MARKER%" (set "WHY=this installer has not installed it for you." & goto failed)
if exist "%HOSTS%" for /f "usebackq tokens=1,* delims==" %%A in ("%HOSTS%") do call :remove %%A %%B || (set "WHY=%%~B still has CellSeg in it; see above." & goto failed)
call :end_engine
rmdir /s /q "%DATA%"
rmdir "%PARENT%" 2>nul
if exist "%DATA%\" (set "WHY=%DATA% could not be removed; close what uses it and try again." & goto failed)
echo.
echo CellSeg is removed. Your own models and results were left where they are.
pause
exit /b 0

:end_engine
rem Only an engine of this environment; another one is none of our business.
if exist "%CELLSEG%" "%PYTHON%" -c "import sys, psutil; from cellseg_client.start import find_engine; f = find_engine(); p = f and psutil.Process(f.connection.pid); p and p.cmdline()[0].lower().startswith(sys.prefix.lower()) and (p.terminate(), p.wait(20))"
exit /b 0

:remove
if "%~1"=="fiji" goto remove_fiji
if not exist "%~2\_cellseg\installed.json" exit /b 0
"%CELLSEG%" uninstall cellprofiler --plugins-directory "%~2"
exit /b %errorlevel%
:remove_fiji
if not exist "%~2\cellseg-installed.json" exit /b 0
"%CELLSEG%" uninstall fiji "%~2"
exit /b %errorlevel%
