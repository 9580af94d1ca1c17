@echo off
rem Double-click it. UNTRIED: no Windows was at hand.
call "%~dp0Install CellSeg (Windows).bat" /uninstall
